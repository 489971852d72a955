"""Where the server gives things, relative to its root, so that pages work below a proxy's folder, too."""

API = "api/v1"


def job(id: str) -> str:
    """A job's status."""
    return f"{API}/jobs/{id}"


def preview(id: str, name: str) -> str:
    """A job's newest preview, whose file has this name: a new one has a new address, so that no old one is kept."""
    return f"{job(id)}/preview?{name}"


def result(id: str, name: str) -> str:
    """A file of a job that is done, by its name in `champ_jax.app.service.RESULTS`."""
    return f"{job(id)}/results/{name}"
