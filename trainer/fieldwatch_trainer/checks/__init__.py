"""What can be wrong with a lake's data, one kind of finding a module: pure functions over one sensor or one device.

:mod:`.check` reads the lake and calls them; :mod:`.checks.finding` says what a finding is and lists every kind.
"""
