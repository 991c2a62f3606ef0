"""Chaos in the lab: a real pair under seeded faults, measured beside stated bounds (``docs/chaos.md``).

``kinds`` lists the faults, ``bounds`` what each may cost, ``schedule`` draws them from a seed, ``record`` keeps what
happened as spans of time, ``verdict`` judges it, ``timeline`` draws it: these touch no lab. ``faults`` does them to a
lab, ``site`` is the pair with its clients and watchers, ``driver`` leads a run.
"""
