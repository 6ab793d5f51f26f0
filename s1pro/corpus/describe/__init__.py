"""What a page itself proves about a figure or table: facts first, then sentences. No model is involved."""
