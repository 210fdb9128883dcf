"""Pictures between processes of one host: once into shared memory, and a ticket that says where."""
