"""What ``docs/cost.md`` and ``docs/measurements.md`` say beside the measurements."""

from __future__ import annotations

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.tables import table

TASKS = ("signals (1D)", "images (2D)", "shapes (3D)", "NeRF (5D)")

COST_HEADER = """# What the adjustment costs

Plain and adjusted steps are timed alternately in one run; their ratio is the median over rounds. Memory is what a step
holds at most beyond what it finds. The Jacobian route is what IGA costs as published: per-sample Jacobians, a full
eigendecomposition, a dense S. *Plain over products* compares a plain step with its matrix products alone at the rate
that this machine reaches for one such product.
"""

MEASUREMENTS_HEADER = """# Measurements

Times are medians of alternating calls in one run where nothing else is said, and only their ratios mean something on
another machine.
"""


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
