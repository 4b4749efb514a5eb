"""What became of a model: coverage layer by layer, and drawings of its graph."""

from .coverage import Coverage, coverage, planned_coverage
from .layer_coverage import LayerCoverage
from .plot import plot_graph

__all__ = ["Coverage", "LayerCoverage", "coverage", "plot_graph", "planned_coverage"]
