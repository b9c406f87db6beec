"""View: pictures of plans, programs and simulations."""
