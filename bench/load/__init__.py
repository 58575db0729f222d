"""``python -m bench.load``: a thousand devices, people at their pages, and how soon an alert reaches them.

Real programs on 127.0.0.1: Mosquitto, ``fieldwatch-cloud serve``, a mail server with STARTTLS, Chromium. Nothing in
between is simulated but the devices (:mod:`.devices`), whose events the agent's own code writes.
"""
