"""A program that prepares recordings in processes that may be killed; see `killing`."""

from killing import serve

from sensorseq.prepare import prepare

if __name__ == "__main__":
    serve(prepare)
