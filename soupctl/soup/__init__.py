"""What a soup is: recipe, weights, plan and ledger, as pure values."""
