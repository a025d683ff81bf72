"""The presets of a bench."""

PRESETS: dict[str, dict[str, object]] = {
    "smoke": {
        "budget": 1.5e11,
        "seeds": 1,
        "limits": {"preference_labels": 48, "demonstrations": 128, "prompts": 500},
        "evaluation": {
            "temperatures": [0.0, 1.0],
            "dev_prompts": 16,
            "test_prompts": 32,
            "curve_prompts": 16,
            "task_items": 10,
            "best_of": [4],
        },
    },
    "quick": {
        "budget": 1.1e12,
        "seeds": 3,
        "limits": {"preference_labels": 400, "demonstrations": 800, "prompts": 4000},
        "evaluation": {
            "temperatures": [0.0, 0.5, 1.0],
            "dev_prompts": 64,
            "test_prompts": 192,
            "task_items": 150,
            "best_of": [4],
        },
    },
    "board": {
        "budget": 6e12,
        "seeds": 5,
        "evaluation": {"temperatures": [0.0, 0.3, 0.5, 0.7, 1.0], "dev_prompts": 128, "test_prompts": 512},
    },
    "full": {
        "budget": 1.2e13,
        "seeds": 10,
        "evaluation": {"temperatures": [0.0, 0.3, 0.5, 0.7, 1.0], "dev_prompts": 128, "test_prompts": 512},
    },
}
"""What a preset fixes. Budgets are FLOPs.

`smoke` shows within a minute that all rows run; in `quick` PPO takes some hundred optimizer steps.
"""
