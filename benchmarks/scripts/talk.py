"""A worker that prints 500,000 lines."""

for i in range(500_000):
    print(f"{i} all work and no play makes rank a dull worker")
