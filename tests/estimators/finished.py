"""What a generator returns once it is run to its end."""


def finished(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
