"""Silence for the command line: what diffusers and transformers log is for developers; what a user must know, renoise says."""


def quiet() -> None:
    """Stop the libraries' own remarks and progress bars in this process, those of errors and downloads excepted."""
    import diffusers
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()
    downloads = not are_progress_bars_disabled()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()  # transformers' switch turned them off too
