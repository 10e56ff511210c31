"""How far probabilities are kept from 0 and 1, where a log loss is infinite."""

LOSS_EDGE = 1e-15  # for the loss of rows whose labels are known
PROMISE_EDGE = 1e-9  # for a loss that is estimated before labels come
EXCESS_EDGE = 1e-6  # for a loss beside its expectation: one sure error must not outweigh all other rows
SUM_EDGE = 1e-6  # how far from 1 the sum of the probabilities of all classes may be: some models work with 32 bits
