# After `make wheels`: docker build -t sensorseq . && docker run -v "$PWD:/data" sensorseq info model.safetensors
FROM python:3.11-slim
# an index with CPU-only torch saves several gigabytes
ARG PIP_EXTRA_INDEX_URL
COPY dist/sensorseq-*-cp311-*.whl /tmp/
RUN pip install --no-cache-dir --only-binary :all: /tmp/sensorseq-*.whl && rm /tmp/sensorseq-*.whl
RUN sensorseq doctor --self
USER 1000
WORKDIR /data
ENTRYPOINT ["sensorseq"]
