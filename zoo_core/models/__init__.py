"""Loading, copying and saving models; scorers, judges and adapters made of them."""
