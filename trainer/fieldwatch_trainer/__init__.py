"""The trainer: from the lake to a signed bundle.

``lake`` → ``data`` (training rows, folds) → ``models`` (plugins) → ``train`` (held-back scores, ``thresholds``,
``bundle``, ``gate``) → ``report``; then ``score`` and ``evaluate`` with the device's own scorer, and ``release``.
"""
