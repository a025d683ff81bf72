"""ORPO: imitate chosen answers and raise their odds over those of rejected ones, in one stage."""
