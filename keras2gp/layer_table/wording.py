"""Sentences that rows of the table share: first reasons for refusals, then documentation."""

ATTENTION = (
    (
        "it weighs positions by the softmax of products of features, which stays random at any "
        "width: with its fixed number of heads it has no deterministic limit"
    ),
    "convolutions, or average pooling, in its place",
)
LARGEST = (
    "the largest of several Gaussian variables is not Gaussian: its covariance has no closed form",
    (
        "AveragePooling, or a convolution with a stride; or max_pooling='average' (--max-pooling "
        "average), which gives the kernel of the model with average pooling in its place"
    ),
)
PRODUCT = (
    "it sums products over axes of its own, or over images too, and has no rule here",
    "Dot(1) of two vectors; or Multiply of independent branches with a layer with weights after it",
)
CODE = (
    "it runs a function of its own, and nothing here says what that does to a covariance",
    "layers or keras.ops operations in its place",
)

ADD = (
    "Sum of branches: covariances of independent branches add, equal ones add coefficients; at the "
    "output numbers, arrays and the input are the mean of the process."
)
SUBTRACT = "Difference of two branches: as a sum, the second with coefficient -1."
LARGER = (
    "The larger or smaller of two Gaussian branches, by half of |a - b|; of one and a number, an "
    "activation."
)
CONCATENATE = (
    "Channel groups, which weights after it average over, C_i / sum C; or maps side by side."
)
AVERAGE_POOLING = (
    "Mean over a window: k'[d][g] = mean over its positions a, b of k[b - a][a], inside."
)
ADAPTIVE = "Average pooling into a given number of equal bins; refused where they are not equal."
MAX_POOLING = (
    "Exact for a window of 1 (a stride); else refused, or average pooling if so asked for."
)
RESHAPE = (
    "Another shape that keeps the channels last, flattens, joins the last positions to the "
    "channels (columns of a map as steps), spreads units over positions, or cuts channels into "
    "groups and joins them again."
)
RESIZED = "A map of another size: its nearest positions, or bilinear means of their neighbours."
PERMUTE = (
    "Another order of the axes, with the channels first or last; offsets change as positions do. "
    "Between two Reshapes, channels in another order."
)
