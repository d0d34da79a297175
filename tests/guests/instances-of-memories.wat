;; Has eleven memories, one more than it may have.
;; where: start
;; expect: has more core instances, memories or tables than the 10 of rule.guest.instances
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
