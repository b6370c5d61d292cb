"""What several tests of event files share."""


def event_file_in(log_dir):
    """Return the path of the only event file in a log directory."""
    [path] = (log_dir / "feature_vis").iterdir()
    return path
