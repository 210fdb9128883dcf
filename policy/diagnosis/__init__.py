"""What a finished or running offline run says about itself, and what to do next."""
