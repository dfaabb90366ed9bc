"""A kernel's main loop, and the path through it that a step in the middle takes."""

from dataclasses import dataclass

from sass import MATRIX


@dataclass(frozen=True)
class Graph:
    """Basic blocks as ranges of the code, and where each may go on."""

    code: list
    blocks: list
    successors: list

    @staticmethod
    def of(code):
        index = {instruction.offset: i for i, instruction in enumerate(code)}
        leaders = {0}
        for i, instruction in enumerate(code):
            if instruction.jump in index:
                leaders.add(index[instruction.jump])
            if (instruction.jump is not None or instruction.always_leaves) and i + 1 < len(code):
                leaders.add(i + 1)
        order = sorted(leaders)
        blocks = list(zip(order, [*order[1:], len(code)], strict=True))
        number = {begin: n for n, (begin, _) in enumerate(blocks)}
        successors = []
        for n, (_, end) in enumerate(blocks):
            last, to = code[end - 1], []
            if last.jump in index:
                to.append(number[index[last.jump]])
            if not last.always_leaves and n + 1 < len(blocks):
                to.append(n + 1)
            successors.append(to)
        return Graph(code, blocks, successors)

    def instructions(self, numbers):
        return [ins for n in numbers for ins in self.code[slice(*self.blocks[n])]]

    def in_order(self):
        """Blocks that can be reached, each before those that follow it, but for loops."""
        seen, order, todo = {0}, [], [(0, iter(self.successors[0]))]
        while todo:
            n, rest = todo[-1]
            following = next((s for s in rest if s not in seen), None)
            if following is None:
                order.append(n)
                todo.pop()
            else:
                seen.add(following)
                todo.append((following, iter(self.successors[following])))
        return order[::-1]

    def loops(self, order):
        """All blocks of each loop, by its first. Code out of line jumps back in the listing, which is
        no loop by that; against this order of blocks only a loop jumps back."""
        position = {n: i for i, n in enumerate(order)}
        predecessors = {n: [] for n in order}
        for n in order:
            for successor in self.successors[n]:
                predecessors[successor].append(n)
        for latch in order:
            for head in self.successors[latch]:
                if position[head] <= position[latch]:
                    body, todo = {head}, [latch]
                    while todo:
                        n = todo.pop()
                        if n not in body:
                            body.add(n)
                            todo.extend(predecessors[n])
                    yield head, body


def weight(instructions):
    """What a step in the middle does that first and last ones leave out; then fewest branches and fewest
    instructions, which leaves out what happens once, such as the copies of a residual."""
    executed = [ins.base for ins in instructions if ins.is_executed]
    matrix = sum(executed.count(base) for base in MATRIX)
    copies = (executed.count(kind) for kind in ("LDGSTS", "UTMALDG", "LDSM"))
    branches = sum(ins.jump is not None for ins in instructions)
    return (*copies, matrix, -branches, -len(instructions))


def main_loop(code):
    """Instructions of a step in the middle of the main loop: of the loop that is densest in matrix
    instructions, for loops around it hold more than a step. None where there is none."""
    graph = Graph.of(code)
    order = graph.in_order()

    def density(loop):
        instructions = graph.instructions(loop[1])
        matrix = sum(ins.base in MATRIX for ins in instructions)
        return matrix / len(instructions), matrix

    head, body = max(graph.loops(order), key=density, default=(None, ()))
    if not body or not density((head, body))[1]:
        return None
    # The heaviest way to each block; weights add up, so ways to a block need not be told apart.
    best = {head: (weight(graph.instructions([head])), (head,))}
    ways_round = []
    for n in (n for n in order if n in body and n in best):
        sums, path = best[n]
        for successor in graph.successors[n]:
            if successor == head:
                ways_round.append((sums, path))
            elif successor in body and successor not in path:
                added = weight(graph.instructions([successor]))
                way = (tuple(map(sum, zip(sums, added, strict=True))), (*path, successor))
                best[successor] = max(best.get(successor, way), way)
    return graph.instructions(max(ways_round)[1])
