#!/usr/bin/env bash
# Score a corpus with the tasks of a SLURM array: sbatch examples/score_slurm.sh MODEL CORPUS OUT
# Each task takes the next free shard of OUT, a folder that all nodes see and whose file system has flock. A task that is
# killed and requeued resumes; the last to end writes the manifest.
#SBATCH --job-name=samplewise-score
#SBATCH --array=0-7
#SBATCH --gpus-per-task=1
#SBATCH --requeue
set -euo pipefail
samplewise score --model "$1" --data "$2" --out "$3"
