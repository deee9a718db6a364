"""The metrics in words, for the command line's help: this module loads no torch, as no other of its shelf."""

from vidlatent.metrics.table import METRICS

METRIC_HELP = "Metrics and what each needs:\n\n" + "\n\n".join(
    f"{name}: {offer.summary}. Needs {offer.file or offer.needs}." for name, offer in METRICS.items()
)
