"""Ours and the peers side by side: one command, the same inputs, alternating runs, results compared.

    make bench                      # all of them, about an hour on two cores
    make bench NAMES="step patches" # some

Both sides run in one environment of their own (`.peers`: this project with its pinned packages, and the peers of
benchmarks/peers.txt beside them), each in a process of its own, with as many threads as there are cores.
"""
