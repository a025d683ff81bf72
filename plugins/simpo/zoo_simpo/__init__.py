"""SimPO and CPO: learn from pairs without a reference."""
