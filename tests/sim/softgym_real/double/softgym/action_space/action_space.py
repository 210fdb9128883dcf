"""The picker, whose memory `get_state` does not hold."""

import numpy as np
import pyflex
from gym.spaces import Box


class Picker:
    """Spheres that hold the particle nearest to them while their flag is set."""

    def __init__(self, num_picker, picker_radius, particle_radius, picker_low, picker_high):
        self.picker_radius, self.particle_radius, self.num_picker = picker_radius, particle_radius, num_picker
        self.picked_particles = [None] * num_picker
        self.picker_low, self.picker_high = np.array(picker_low), np.array(picker_high)
        low = np.array([-0.1, -0.1, -0.1, 0] * num_picker) * 0.1
        self.action_space = Box(low, np.array([0.1, 0.1, 0.1, 10] * num_picker) * 0.1, dtype=np.float32)
        self.particle_inv_mass = None

    def reset(self, center):
        """Stand on a circle round `center`."""
        for i in (0, 2):
            offset = center[i] - (self.picker_high[i] + self.picker_low[i]) / 2.0
            self.picker_low[i] += offset
            self.picker_high[i] += offset
        radius = np.sqrt(self.num_picker - 1) * self.picker_radius * 2.0
        for i in range(self.num_picker):
            turn = 2 * np.pi * i / self.num_picker
            at = [center[0] + np.sin(turn) * radius, center[1], center[2] + np.cos(turn) * radius]
            pyflex.add_sphere(self.picker_radius, at, [1, 0, 0, 0])
        self.picked_particles = [None] * self.num_picker
        self.particle_inv_mass = pyflex.get_positions().reshape(-1, 4)[:, 3]

    def hold(self, particles):
        """Stand at particles and hold them."""
        p, shapes = pyflex.get_positions().reshape(-1, 4), pyflex.get_shape_states().reshape(-1, 14)
        for i, particle in enumerate(particles):
            shapes[i, :3] = shapes[i, 3:6] = p[particle, :3] + self.picker_radius
            self.picked_particles[i] = particle
        pyflex.set_shape_states(shapes)

    def step(self, action):
        """One simulator step of the pickers."""
        action = np.reshape(action, [-1, 4])
        shapes, p = pyflex.get_shape_states().reshape(-1, 14), pyflex.get_positions().reshape(-1, 4)
        for i in range(self.num_picker):
            at, low, high = shapes[i, :3].copy(), self.picker_low, self.picker_high
            to = np.clip(at + action[i, :3], low + self.picker_radius, high - self.picker_radius)
            held = self.picked_particles[i]
            if action[i, 3] <= 0.5 and held is not None:
                p[held, 3] = self.particle_inv_mass[held]
                held = None
            elif action[i, 3] > 0.5 and held is None:
                distance = np.linalg.norm(p[:, :3] - at, axis=1)
                nearest = int(np.argmin(distance))
                within = 0.005 + self.picker_radius + self.particle_radius
                held = nearest if distance[nearest] <= within else None
            if held is not None:
                p[held, :3] += to - at
                p[held, 3] = 0
            self.picked_particles[i] = held
            shapes[i, 3:6], shapes[i, :3] = at, to
        pyflex.set_shape_states(shapes)
        pyflex.set_positions(p)
