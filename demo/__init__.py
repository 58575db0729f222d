"""The demo: simulated devices, and the whole of Fieldwatch around them on one machine.

The simulator stands by itself (:mod:`demo.plant` → :mod:`demo.device` → :mod:`demo.fleet`) and knows nothing of
agent, trainer or cloud; :mod:`demo.live` keeps its logs growing. :mod:`demo.stages` is the rest of the house, built
and started as an operator would: through command lines, configuration files and HTTP.
"""
