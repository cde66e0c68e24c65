"""Why a stage of dvc.yaml would run or be skipped, told before it does."""

from cspipe.explain.explanation import Explanation, explain, explain_all, table
from cspipe.explain.forecast import Verdict

__all__ = ["Explanation", "Verdict", "explain", "explain_all", "table"]
