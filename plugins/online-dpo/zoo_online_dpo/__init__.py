"""Online DPO: DPO on pairs of the policy's own responses, which the reward labels."""
