# CPU:   docker build -t evalkit .
# CUDA:  docker build -t evalkit:cuda --build-arg EXTRAS=gpu,data,report,fast .
#        docker run --gpus all ... (the driver and NVIDIA's container toolkit are the machine's)
# Run:   docker run --rm -v "$PWD:/work" evalkit lfw --model model.onnx --preset arcface
FROM python:3.12.11-slim-bookworm
ARG EXTRAS=onnx,data,align,report,fast
COPY pyproject.toml README.md LICENSE /source/
COPY evalkit /source/evalkit
COPY protocols /source/protocols
COPY adapters /source/adapters
RUN python -m pip install --no-cache-dir "/source[$EXTRAS]" \
    && useradd --create-home --uid 1000 evalkit \
    && install -d -o evalkit /work
USER 1000
WORKDIR /work
ENTRYPOINT ["evalkit"]
