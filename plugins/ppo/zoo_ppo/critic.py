"""The value function of PPO."""

import copy

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo_core.rollout import Responses


class Critic(nn.Module):
    """A copy of the policy's body with a scalar head that starts at 0 (Ziegler et al. 2019, section 2.1)."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.body = copy.deepcopy(policy.base_model)
        self.head = nn.Linear(policy.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, responses: Responses) -> Float[Tensor, "B slots"]:
        """Value of the state before each response token, and of the state after the last: T + 1 slots."""
        hidden = self.body(**responses.inputs, use_cache=False).last_hidden_state
        values: Tensor = self.head(hidden[:, responses.prompt_length - 1 :])
        return values.squeeze(-1).float()
