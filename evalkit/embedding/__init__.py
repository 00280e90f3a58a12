"""From images to vectors: the pipelined embedder, reuse of vectors, the trial of inputs."""
