"""From a project to a graph, from a graph to a plan, and runners that carry a plan out."""
