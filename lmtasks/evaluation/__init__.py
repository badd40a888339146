"""Tasks become requests, answers become outcomes, outcomes become scores; and all of it is written down."""
