"""Looking at recordings without a display: a Rerun recording, a film, a contact sheet."""
