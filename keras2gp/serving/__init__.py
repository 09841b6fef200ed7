"""Fitted estimators as TensorFlow SavedModels that predict without keras2gp."""
