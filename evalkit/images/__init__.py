"""Images by name, as RGB uint8 arrays: from a folder, a zip archive, a list or a set's own file."""

from evalkit.images.decoding import Picture, decode, decoder
from evalkit.images.finding import find
from evalkit.images.source import Encoded, ImageSource, Step, encoded

__all__ = ["Encoded", "ImageSource", "Picture", "Step", "decode", "decoder", "encoded", "find"]
