"""Models of MuJoCo Menagerie, where the user has them."""
