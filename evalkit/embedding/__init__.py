"""Images become vectors: the pipelined embedder, what it may take again, the trial of inputs."""
