"""The transformer, its heads, forward passes and sampling distribution."""
