"""The application: tasks on real data, run, resumed after any interruption, recorded and reported."""
