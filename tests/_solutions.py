"""What a student is shown as the solution of an exercise, as something to call."""


def run_solution(exercises, name):
    """Run the source of one exercise's solution and return what it defines."""
    namespace = {}
    exec(exercises.__getattr__(name).solution(), namespace)
    return namespace[name]
