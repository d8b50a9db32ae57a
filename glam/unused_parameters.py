"""Unused parameters: those that the result of a network does not depend on, such as the parts of a classifier.

`DistributedDataParallel` waits for the gradient of every parameter, and ends a run at the second step if one has none.
"""

from torch import Tensor, nn


def remove_unused_parameters(net: nn.Module, result: Tensor) -> frozenset[str]:
    """Removes the parameters that a result does not depend on, in place, and the modules that hold nothing else.

    Such a module becomes an identity. Parameters that are not trained stay.

    Args:
        net: network to change.
        result: output of the network, of any shape, computed with gradients.

    Returns:
        Keys that the state dict of the network no longer has.
    """
    before = set(net.state_dict())
    _remove(net, _parameters_behind(result))
    return frozenset(before - set(net.state_dict()))


def _parameters_behind(result: Tensor) -> set[nn.Parameter]:
    """Finds the parameters in the graph of a result; gradients are not computed."""
    found: set[nn.Parameter] = set()
    seen, waiting = set(), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the node that accumulates the gradient of a parameter
            found.add(node.variable)
        waiting.extend(following for following, _ in node.next_functions)
    return found


def _remove(module: nn.Module, used: set[nn.Parameter]) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.requires_grad and parameter not in used:
            setattr(module, name, None)
    for name, child in list(module.named_children()):
        trained = {parameter for parameter in child.parameters() if parameter.requires_grad}
        if trained and not trained & used:
            setattr(module, name, nn.Identity())
        else:
            _remove(child, used)
