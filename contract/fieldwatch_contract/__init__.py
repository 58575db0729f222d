"""What the programs must agree on: reading a log, grid, feature kernel, scoring, bundle, events, topics, policy.

The agent, the trainer and the cloud never import one another; what they share is here. It does no I/O (except reading a
bundle from a path), and needs only numpy and pydantic, plus onnxruntime in :mod:`.scoring`.
"""
