"""A page in the browser and a JSON API over the animation: uploads, a queue of jobs, and a worker that makes them."""
