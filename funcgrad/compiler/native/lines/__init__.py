"""Operations along the lines of an array as code: running folds, and sorts."""
