"""The demo: simulated devices, and the whole of Fieldwatch around them on one machine.

The simulator stands by itself (:mod:`.plant` → :mod:`.device` → :mod:`.fleet`) and knows nothing of
agent, trainer or cloud; :mod:`.live` keeps its logs growing. :mod:`.stages` is the rest of the house, built
and started as an operator would: through command lines, configuration files and HTTP.
"""
