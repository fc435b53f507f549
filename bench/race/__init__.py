"""The race of solvers, installed as `lmaps_fast.race`: `lmaps-fast bench race`."""
