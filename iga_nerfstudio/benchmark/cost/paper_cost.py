"""The paper's own costs, beside ours."""

from __future__ import annotations

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.tables import table

TASKS = ("signals (1D)", "images (2D)", "shapes (3D)", "NeRF (5D)")


def paper_cost() -> str:
    """The paper's own cost (Table 4) as a section, adjusted over plain as in those of our steps."""
    rows = []
    for task in TASKS:
        costs = {
            (variant, metric): paper.number("cost", task, variant, metric) or 0.0
            for variant in ("plain", "iga", "entk")
            for metric in ("seconds", "megabytes")
        }
        cells = [task, f"{costs['plain', 'seconds']:g} s", f"{costs['plain', 'megabytes']:,.0f} MB"]
        for variant in ("iga", "entk"):
            time, memory = (costs[variant, metric] / costs["plain", metric] for metric in ("seconds", "megabytes"))
            cells += [f"{time:.2f}", f"{memory:.2f} x"] if time else ["", ""]
        rows.append(cells)
    head = ["task", "plain", "memory", "adjusted / plain", "memory", "eNTK of all inputs / plain", "memory"]
    return f"""## Steps in the paper

Its Table 4, on its own machine: means over all networks of a task. The ratios of time compare with those above: \
signals with signal-p4 and -p8, and with signal-p1 for the eNTK of all inputs, images with image-n384, shapes with \
shape-n512, NeRF with nerf-n1024. Its memory may count more than what a step holds.

{table(head, rows)}"""
