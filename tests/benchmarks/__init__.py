"""How fast larun is beside its peers, with the work compared before any time is believed.

``python -m tests.benchmarks`` runs every topic, ``python -m tests.benchmarks combine detect --size full`` some.
"""
