"""What two sides must agree on: grid, feature kernel, scoring, bundle, events, topics, policy.

The agent, the trainer and the cloud never import one another; whatever they share stands here, is free of I/O
(a bundle is read from bytes or a path, nothing else), and needs numpy and pydantic alone, plus onnxruntime in
:mod:`.scoring`.
"""
