"""The metrics in words, for the command line's help: a module of its own, as help must not load torch."""

from vidlatent.metrics.table import METRICS

METRIC_HELP = "Metrics and what each needs:\n\n" + "\n\n".join(
    f"{name}: {offer.summary}. Needs {offer.file or offer.needs}." for name, offer in METRICS.items()
)
